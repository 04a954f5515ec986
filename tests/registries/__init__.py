"""The registry client against real registries, other clients, and a hostile one."""
