"""The server: TensorFlow Serving's REST API for exported models; needs no `kerasformer`."""
