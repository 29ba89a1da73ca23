"""The stand-in for the azure-native plugin: the same resource types, realised on this machine.

`python -m dr.local.standin ENGINE` is the plugin's executable. `metadata` checks what a program asks for against the
SDK, `records` remembers what exists, `kinds` and its neighbours realise one resource type each, `provider` answers
the engine. It accepts one subscription only, which no tenant has.
"""
