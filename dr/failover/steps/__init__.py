"""The steps of a run that are no resources of Azure: actions and approvals, and what is kept of each.

- `records`: what is kept, as names, JSON and states; pure.
- `context`: what a step is told of the run; pure.
- `output`: what a program said, bounded and without secrets; pure.
- `performing`: one step on a store: intent, action, result; approvals and verdicts of people.
- `script`, `webhook`, `command`: the kinds of actions.
"""
