"""The command ``vasculum``: thin commands over the services; one module per command or group."""
