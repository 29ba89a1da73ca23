"""Single files from a recovery point, read from its snapshots by ranges: nothing is mounted, nothing loaded whole.

Above the vault; partition tables, LVM, ext4 and XFS are read by the dissect libraries.
"""
