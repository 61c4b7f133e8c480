"""The control plane: supervisor, fork server, child processes, control sockets, start of an instance."""
