//! How a controller listens to one resource: every object that is there, then every change, without end. When history has moved past a
//! listener it says so, and begins again with everything that is there.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::FutureExt;

use super::resource::Resource;
use super::store::{Change, Store, WatchStream};

/// Changes that one call hands out at most.
const BATCH_MAX: usize = 512;

pub struct Feed {
    store: Arc<Store>,
    resource: &'static Resource,
    stream: WatchStream,
}

/// What a listener hears.
#[derive(Debug)]
pub enum News {
    Changed(Change),
    /// Changes were missed: what follows is everything that is there; what does not follow is gone.
    StartsOver,
}

impl Feed {
    pub fn new(store: &Arc<Store>, resource: &'static Resource) -> Feed {
        Feed { store: store.clone(), resource, stream: begin(store, resource) }
    }

    /// The next news, whenever it comes. Dropping the future loses nothing.
    pub async fn next(&mut self) -> News {
        match self.stream.next().await {
            Ok(change) => News::Changed(change),
            Err(_gone) => {
                self.stream = begin(&self.store, self.resource);
                News::StartsOver
            }
        }
    }

    /// The next news and all that is there already, so that a burst of changes is one piece of work.
    pub async fn batch(&mut self) -> VecDeque<News> {
        let mut batch = VecDeque::from([self.next().await]);
        while batch.len() < BATCH_MAX
            && let Some(news) = self.next().now_or_never()
        {
            batch.push_back(news);
        }
        batch
    }
}

fn begin(store: &Arc<Store>, resource: &'static Resource) -> WatchStream {
    store.watch(resource, None, None).expect("a watch that begins with what is there cannot come too late")
}
