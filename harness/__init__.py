"""What tests and the demo need around ComfyUI, and no user ever runs: tiny models, stand-ins for packages that do not
match the CPU build of torch."""
