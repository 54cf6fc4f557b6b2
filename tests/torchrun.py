"""How tests start a training of two processes by torchrun."""

TORCHRUN = [
    "-m",
    "torch.distributed.run",
    "--nproc_per_node=2",
    "--master_port=0",
    "--rdzv_backend=c10d",
    "--rdzv_endpoint=localhost:0",
]
"""The words between Python and the script."""
