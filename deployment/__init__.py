"""Deploys an environment to AWS: `make deploy ENV=dev ARCH=arm64|x86_64`.

- `plan`: everything that is checked before the build, and what is shown to the user
- `environments`: names of environments and stacks, and their sections of samconfig.toml
- `parameters`: the parameters of the template, merged from samconfig.toml and PARAMETERS
- `package`: the package to deploy, and the check that its functions are built for the right processor
- `stacks`: the present state of a stack on AWS, and whether a deployment can change it
- `graphql`: the stack of the GraphQL API, and what it takes from the main stack
"""
