"""Programs that run inside a sandbox.

They use the standard library alone, and import each other relatively: in a sandbox there is this folder and no package
around it.
"""
