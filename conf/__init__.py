"""The configs of the commands, one concern a file; a group has the name of the room that it configures.

Installed with the package they are `vae_lightning.conf`, which Hydra finds as `pkg://vae_lightning.conf`.
"""
