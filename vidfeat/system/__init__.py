"""The operating system: atomic files, locks, child processes, downloads, memory, threads."""
