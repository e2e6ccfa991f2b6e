"""The main job: a folder of videos to one feature file, on one machine or on a Ray cluster."""
