"""The ops: one file each, holding schema, fake, autograd, autocast and the public function."""
