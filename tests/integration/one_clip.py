"""What short runs that begin from `experiment=demo` rely on, whatever the demo's own recipe is."""

ONE_CLIP = (  # a step, of up to three objects
    *("max_objects=3", "dataset.batch_size=1"),
    *("dataset.max_frame_stride=null", "dataset.prompt_types=[mask,point]"),
)
