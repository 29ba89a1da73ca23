"""What lies in the storage account: replicas as fixed VHDs, their digests, manifests and recovery points.

`store` is the interface to the storage, `azure` and `memory` implement it. `replica` is the only place that writes
pages; `points` reads the vault with nothing but a store; `verify` proves a point's content by its digests. Formats
(`vhd`, `digests`, `manifest`) and the planning of a batch (`batch`) are pure.
"""
