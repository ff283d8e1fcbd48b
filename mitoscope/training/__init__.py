"""From public data sets to a weights bundle: prepare, split, fit, run, evaluate, publish. See train/README.md."""
