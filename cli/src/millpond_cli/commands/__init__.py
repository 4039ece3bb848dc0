"""One module a command: reads options, calls what does the work, prints. typer needs a parameter for every option."""
