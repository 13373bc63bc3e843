"""Wait counters out to where somebody looks at them; each exporter by name."""
