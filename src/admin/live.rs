//! Where the core leaves its pictures, and how it hears that somebody wants one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Picture;

/// Shared by the core, which makes pictures, and whoever looks at them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Live {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    is_wanted: AtomicBool,
    pictures: watch::Sender<Option<Arc<Picture>>>,
    /// Pictures that are out of date. To drop one of very many sessions takes a while, which the core does not have.
    old: Mutex<Vec<Arc<Picture>>>,
}

impl Default for Live {
    fn default() -> Self {
        let pictures = watch::Sender::new(None);
        Self { inner: Arc::new(Inner { is_wanted: AtomicBool::new(false), pictures, old: Mutex::default() }) }
    }
}

/// The side of the core.
impl Live {
    /// Whether somebody wants another picture.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.inner.is_wanted.load(Ordering::Relaxed)
    }

    /// Takes the wish: whoever wishes from here on wants a later picture than the one that begins now.
    pub fn take_wish(&self) -> bool {
        self.inner.is_wanted.swap(false, Ordering::Relaxed)
    }

    /// Shows a picture to all who look.
    pub fn show(&self, picture: Picture) {
        self.replace(Some(Arc::new(picture)));
    }

    /// Takes the picture down: nobody looks any more.
    pub fn take_down(&self) {
        if self.inner.pictures.borrow().is_some() {
            self.replace(None);
        }
    }

    fn replace(&self, picture: Option<Arc<Picture>>) {
        if let Some(before) = self.inner.pictures.send_replace(picture) {
            self.old().push(before);
        }
    }

    fn old(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Picture>>> {
        self.inner.old.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of whoever looks.
impl Live {
    /// Wishes for a picture that begins from now on.
    pub fn wish(&self) {
        self.inner.is_wanted.store(true, Ordering::Relaxed);
    }

    /// The last picture, if somebody looked lately.
    #[must_use]
    pub fn shown(&self) -> Option<Arc<Picture>> {
        self.inner.pictures.borrow().clone()
    }

    /// Drops the pictures that are out of date. To be called now and then by whoever has the time.
    pub(super) fn tidy(&self) {
        let old = std::mem::take(&mut *self.old());
        drop(old);
    }

    /// Someone who looks, from the next picture on.
    pub(super) fn viewer(&self) -> Viewer {
        let mut pictures = self.inner.pictures.subscribe();
        pictures.mark_unchanged();
        Viewer { live: self.clone(), pictures }
    }
}

/// Someone who looks.
#[derive(Debug)]
pub(super) struct Viewer {
    live: Live,
    pictures: watch::Receiver<Option<Arc<Picture>>>,
}

impl Viewer {
    /// The next picture; none once the core is gone.
    pub(super) async fn next(&mut self) -> Option<Arc<Picture>> {
        loop {
            self.live.wish();
            self.pictures.changed().await.ok()?;
            let picture = self.pictures.borrow_and_update().clone();
            if picture.is_some() {
                return picture;
            }
        }
    }
}
