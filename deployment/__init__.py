"""Deploys an environment to AWS: `make deploy ENV=dev ARCH=arm64|x86_64`.

- `plan`: everything that is checked before the build, and what is shown to the user
- `environments`: names of environments and stacks, and what samconfig.toml says of them
- `parameters`: the parameters of the template, composed so that none is lost
- `package`: what is deployed, and whether it is built for the right processor
- `stacks`: the stack as it is on AWS, and whether it can be deployed to
"""
