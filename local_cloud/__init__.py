"""The local cloud: MiniStack with the application, deployed by `sam deploy` from the unchanged template.

- `processes`: processes that go on when a command ends, and ports
- `cloud`: MiniStack and the simulated OpenChargeMap
- `deployment`: `sam deploy`, if something has changed
- `completion`: what MiniStack's CloudFormation ignores in the template
- `outputs`: the files for those who use the cloud, outputs.json and env
"""
