"""Work on a Slurm cluster: any job that a second start resumes, or finds finished."""
