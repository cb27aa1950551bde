"""Optional capabilities. Nothing else in the project imports them: they are loaded when an option asks for one."""
