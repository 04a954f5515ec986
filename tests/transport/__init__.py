"""Sources and sinks, against servers that lie."""
