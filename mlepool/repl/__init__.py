"""For people at a prompt: ``mlepool shell``, completion, host mode, magics."""
