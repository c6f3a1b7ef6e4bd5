"""The local cloud: MiniStack with the application, deployed by `sam deploy` from the unchanged templates.

- `processes`: processes that continue to run after the command that started them, and ports
- `cloud`: MiniStack and the simulated OpenChargeMap
- `deployment`: `sam deploy`, if something has changed
- `stack`: parameters and outputs of a deployed stack
- `completion`: the settings of the template that MiniStack's CloudFormation ignores
- `outputs`: the files for users of the cloud: outputs.json and env
"""
