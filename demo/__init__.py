"""The main job on real input: a server is protected, its site burns, and it runs again from the vault.

Everything here looks at Lifeboat from outside: it types the commands that the README names and compares what comes
out with pictures of the disk that it took itself.
"""
