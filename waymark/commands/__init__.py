"""The commands of the command line, one file each. Heavy imports wait inside the functions."""
