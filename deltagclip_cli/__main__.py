"""``python -m deltagclip_cli`` is ``deltagclip``; launchers start workers this way."""

from deltagclip_cli.commands.main import main

if __name__ == "__main__":
    main()
