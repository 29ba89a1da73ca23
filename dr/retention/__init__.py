"""What may delete history, and when: retention by policy, the end of servers that left, and `dr purge`.

`table` is the pure rule, `record` what retention itself saw and since when, `pruning` one pass over a vault under the
retention identity, `purge` the explicit word.
Nothing of the site runs this: on target azure it is a job in Azure with an identity of its own, on target local a
process of the half that plays Azure.
"""
