"""One thin function a stage of a recipe: open the inputs, call the rooms, write the output folder."""
