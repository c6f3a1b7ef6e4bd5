"""Tests of the AppSync of the local cloud. Some run it, in a MiniStack of their own."""
