//! A splitter for the elements of a JSON array that arrives in pieces.
//!
//! It finds the boundaries of the elements by brackets and quotes, and passes on the bytes of each element. Therefore
//! the whole array is never in memory, and nothing is parsed twice. (Splitting first and parsing slices is one and a
//! half times as fast as a streaming parser, which reads byte by byte.)

use std::mem;

use memchr::memchr2;

/// The reason why a body is not a JSON array.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnArray {
    /// The body does not start with `[`.
    #[error("the body is no JSON array")]
    Start,
    /// There is an unexpected byte between the elements or after the array.
    #[error("the body is no JSON array: {:?} at byte {at}", char::from(*.byte))]
    Byte {
        /// The unexpected byte.
        byte: u8,
        /// The position of the byte in the body.
        at: usize,
    },
    /// An element is larger than the maximum.
    #[error("an element of the body is larger than {LARGEST_ELEMENT} bytes")]
    TooLarge,
    /// The body ends before the array does.
    #[error("the body ends in the middle of the array")]
    Truncated,
}

/// The maximum size of an element, bytes. No real record comes near it.
const LARGEST_ELEMENT: usize = 8 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the array.
    Start,
    /// Where an element may begin.
    Between,
    /// In an element outside of strings, with the depth of brackets.
    Element(usize),
    /// In a string of an element, with the depth of brackets.
    String(usize),
    /// After the array.
    End,
}

/// A splitter for one JSON array.
#[derive(Debug)]
pub struct Elements {
    at: At,
    escaped: bool,
    /// The start of an element whose end has not arrived yet.
    begun: Vec<u8>,
    position: usize,
}

impl Default for Elements {
    fn default() -> Self {
        Self { at: At::Start, escaped: false, begun: Vec::new(), position: 0 }
    }
}

impl Elements {
    /// Consumes the next piece of the body, and calls `take` for each element that it completes.
    ///
    /// # Errors
    /// Returns [`NotAnArray`] when the body is not an array.
    pub fn feed(&mut self, piece: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), NotAnArray> {
        // The start of the current element in this piece.
        let mut from = 0;
        let mut next = 0;
        while next < piece.len() {
            if let At::String(_) = self.at {
                next = self.skip_string(piece, next);
                continue;
            }
            let byte = piece[next];
            match (self.at, byte) {
                (At::Start, b'[') => self.at = At::Between,
                (At::Start | At::Between | At::End, b' ' | b'\t' | b'\r' | b'\n') | (At::Between, b',') => {}
                (At::Start, _) => return Err(NotAnArray::Start),
                (At::Between, b']') => self.at = At::End,
                (At::Between, b'}' | b':') | (At::End, _) => {
                    return Err(NotAnArray::Byte { byte, at: self.position + next });
                }
                (At::Between, _) => {
                    from = next;
                    self.at = At::Element(0);
                    continue;
                }
                (At::Element(depth), b'"') => self.at = At::String(depth),
                (At::Element(depth), b'{' | b'[') => self.at = At::Element(depth + 1),
                (At::Element(0), b',' | b']') => {
                    self.finish(&piece[from..next], &mut take);
                    self.at = if byte == b',' { At::Between } else { At::End };
                }
                (At::Element(depth), b'}' | b']') => self.at = At::Element(depth.saturating_sub(1)),
                (At::Element(_) | At::String(_), _) => {}
            }
            next += 1;
        }
        if matches!(self.at, At::Element(_) | At::String(_)) {
            self.begun.extend_from_slice(&piece[from..]);
            if self.begun.len() > LARGEST_ELEMENT {
                return Err(NotAnArray::TooLarge);
            }
        }
        self.position += piece.len();
        Ok(())
    }

    /// Returns the position after the end of the string, or the length of the piece if the string does not end in it.
    fn skip_string(&mut self, piece: &[u8], from: usize) -> usize {
        let mut next = from;
        if mem::take(&mut self.escaped) {
            next += 1;
        }
        while let Some(found) = piece.get(next..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
            next += found + 1;
            if piece[next - 1] == b'"' {
                if let At::String(depth) = self.at {
                    self.at = At::Element(depth);
                }
                return next;
            }
            if next == piece.len() {
                self.escaped = true;
                return next;
            }
            next += 1;
        }
        piece.len()
    }

    fn finish(&mut self, end: &[u8], take: &mut impl FnMut(&[u8])) {
        if self.begun.is_empty() {
            take(end.trim_ascii_end());
            return;
        }
        let mut whole = mem::take(&mut self.begun);
        whole.extend_from_slice(end);
        take(whole.trim_ascii_end());
        whole.clear();
        // Reuse the buffer: many elements span two pieces.
        self.begun = whole;
    }

    /// Ends the body.
    ///
    /// # Errors
    /// Returns [`NotAnArray::Truncated`] when the array has not ended.
    pub fn end(&self) -> Result<(), NotAnArray> {
        if self.at == At::End { Ok(()) } else { Err(NotAnArray::Truncated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use testkit::seeded;

    fn split(text: &[u8], sizes: &[usize]) -> Result<Vec<Vec<u8>>, NotAnArray> {
        let (mut elements, mut found) = (Elements::default(), Vec::new());
        let (mut rest, mut sizes) = (text, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((*sizes.next().unwrap_or(&1)).clamp(1, rest.len()));
            elements.feed(piece, |element| found.push(element.to_vec()))?;
            rest = more;
        }
        elements.end()?;
        Ok(found)
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\PC\"\\\\\\[\\]{},\n]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"\\\\]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(seeded(256))]

        #[test]
        fn elements_are_found_wherever_the_body_is_cut_into_pieces(
            values in prop::collection::vec(json_value(), 0..6),
            pretty in any::<bool>(),
            sizes in prop::collection::vec(1_usize..40, 1..6),
        ) {
            let array = Value::from(values.clone());
            let text = if pretty { format!("{array:#}") } else { array.to_string() };
            let found = split(text.as_bytes(), &sizes).unwrap();
            let found: Vec<Value> = found.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn a_truncated_array_is_detected(values in prop::collection::vec(json_value(), 1..4), cut in 1_usize..200) {
            let text = Value::from(values).to_string();
            let cut = cut.min(text.len());
            let error = split(&text.as_bytes()[..text.len() - cut], &[7]).unwrap_err();
            prop_assert!(matches!(error, NotAnArray::Truncated));
        }

        #[test]
        fn arbitrary_bytes_cause_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..20) {
            let _ = split(&bytes, &[size]);
        }
    }

    #[test]
    fn a_body_that_is_not_an_array_is_refused() {
        assert_eq!(split(b"<html>", &[100]), Err(NotAnArray::Start));
        assert_eq!(split(b"{\"a\":[]}", &[100]), Err(NotAnArray::Start));
        assert_eq!(split(b"[1] x", &[100]), Err(NotAnArray::Byte { byte: b'x', at: 4 }));
        assert_eq!(split(b"[}", &[1]), Err(NotAnArray::Byte { byte: b'}', at: 1 }));
        assert_eq!(split(b"", &[1]), Err(NotAnArray::Truncated));
        assert_eq!(split(&json!([1, "a", {}]).to_string().into_bytes(), &[1]).unwrap().len(), 3);
        assert_eq!(split(b" [ ] ", &[1]), Ok(Vec::new()));
    }
}
