"""What AWS AppSync does, and MiniStack's AppSync does not.

- `filters`: which updates a subscription wants
- `scalars`: AppSync's scalars
- `hooks`: replacing functions of MiniStack
"""
