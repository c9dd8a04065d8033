//! Which image the agents of faults come from, in clusters whose pods come from images.

/// The image.
#[derive(clap::Args)]
pub struct Flag {
    /// The image that holds `squall`, from where the cluster's nodes can pull it: faults in pods put it there. The sandbox needs none.
    #[arg(long, value_name = "IMAGE", env = "SQUALL_AGENT_IMAGE")]
    agent_image: Option<String>,
}

impl Flag {
    /// What was named; an empty name is none.
    pub fn named(self) -> Option<String> {
        self.agent_image.filter(|image| !image.is_empty())
    }
}
