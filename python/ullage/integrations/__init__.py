"""Containers put into other packages from outside: one file a package, each with `install` and `uninstall`."""
