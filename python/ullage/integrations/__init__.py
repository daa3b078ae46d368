"""ullage inside real packages: one file each, with `install` and `uninstall`."""
