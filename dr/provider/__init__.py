"""The Pulumi provider "dr": the resource types that Azure does not have, one file per type.

- `resource`: what a type is: `check` and `due` that change nothing, blocking `create`, `read`,
  `update`, `delete` on plain values.
- `world`: everything a type touches (stores, key store, servers, clock), handed in, so that tests hand in others.
- `adapter`: between the types and `pulumi.provider.experimental`.
- `registry`: the table of all types.
"""
