"""What is learned: examples, verifiers and the readers that make tasks of a user's data.

Import from the modules: `base` (Example, Verdict, Task, Suite), `load` (configuration to tasks), `verifiers`,
`files`, `sciknoweval`, `toolalpaca`. Nothing is imported here, so that `base` stays light for everyone.
"""
