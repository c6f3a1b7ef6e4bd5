"""Reckons what Evoke costs: idle, by the resources of the template, and in use, by measured units.

    python -m cost                                  print the tables and write them into docs/cost.md
    python -m cost --parameters "Environment=prod"  print them for other parameters of the template, and write nothing
    python -m cost --check                          fail if the idle cost is above its limits or docs/cost.md is stale

The prices, the units and the sizes are in infrastructure/cost.
"""
