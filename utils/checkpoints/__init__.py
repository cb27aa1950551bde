"""What a run leaves on the disk, and how a later start continues from it.

One file: `checkpoint` writes and reads it, `checksum` finds damage, `pickle_scan` refuses what is not plain, `plain`
and `state_dict` convert its content, `sharded_files` and `shard_writer` keep the parts of several processes. A run:
`run_dir` names its files, `lock` keeps other processes out, `run_checkpoints` finds its newest and best checkpoint. A
start: `auto` and `resume` choose the run to continue, `resume_rules` what may change, `foreign_config` what the file of
a stranger may not decide.
"""
