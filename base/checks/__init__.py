"""What happens before a run, or in its place: `preflight` and `rehearsal` try the first batch; `check` and its parts,
`overfit`, `profile`, `replay` and `anomaly` are the tools of train.py, which `choose` selects."""
