// util.transform.toSubscriptionFilter(filter, ignoredFields, rules), as AppSync documents it: conditions of one field
// are alternatives, fields and `and` are joined, `or` lists alternatives. At least one of the rules must be met.
() => {
  const both = (left, right) => left.flatMap((group) => right.map((other) => [...group, ...other]));
  const conditions = (fieldName, comparisons) => {
    if (comparisons === null || typeof comparisons !== "object" || Array.isArray(comparisons)) {
      throw new Error(`toSubscriptionFilter: ${fieldName} needs an operator and a value`);
    }
    return Object.entries(comparisons).map(([operator, value]) => [{ fieldName, operator, value }]);
  };
  // Returns groups of conditions, or null if all fields are ignored.
  const groups = (filter, ignored) => {
    const parts = Object.entries(filter ?? {}).flatMap(([name, value]) => {
      if (name === "and" || name === "or") {
        const inner = value.map((part) => groups(part, ignored)).filter((part) => part !== null);
        if (inner.length === 0) return [];
        return [name === "and" ? inner.reduce(both) : inner.flat()];
      }
      return ignored.includes(name) ? [] : [conditions(name, value)];
    });
    return parts.length === 0 ? null : parts.reduce(both);
  };
  return (filter, ignoredFields, rules) => {
    const found = groups(filter, ignoredFields ?? []);
    const required = Object.entries(rules ?? {}).flatMap(([name, value]) => conditions(name, value));
    const all = required.length === 0 ? found : both(found ?? [[]], required);
    return { filterGroup: (all ?? []).map((filters) => ({ filters })) };
  };
}
