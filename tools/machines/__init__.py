"""Real machines for the demo and the tests: a Debian with its own disk, kernel, boot loader and sshd."""
