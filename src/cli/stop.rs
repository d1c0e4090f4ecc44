//! The wish of whoever started us that we stop: Ctrl-C, `SIGTERM`, or a console that closes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Listens from its making on, so that no early signal kills the process half way through its start.
#[derive(Debug)]
pub(super) struct StopRequests {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(windows)]
    source: Source,
}

#[cfg(unix)]
impl StopRequests {
    /// To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The system refuses to install a handler.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next request.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}

/// Who asks.
#[cfg(windows)]
#[derive(Debug)]
enum Source {
    Console {
        ctrl_c: tokio::signal::windows::CtrlC,
        ctrl_break: tokio::signal::windows::CtrlBreak,
        close: tokio::signal::windows::CtrlClose,
        shutdown: tokio::signal::windows::CtrlShutdown,
    },
    ServiceManager(tokio::sync::mpsc::UnboundedReceiver<()>),
}

#[cfg(windows)]
impl StopRequests {
    /// To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The system refuses to install a handler.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::windows;
        let source = Source::Console {
            ctrl_c: windows::ctrl_c()?,
            ctrl_break: windows::ctrl_break()?,
            close: windows::ctrl_close()?,
            shutdown: windows::ctrl_shutdown()?,
        };
        Ok(Self { source })
    }

    /// The service manager asks once; what it sends later is the same wish, and no reason to hurry.
    pub(super) const fn of_a_service(requests: tokio::sync::mpsc::UnboundedReceiver<()>) -> Self {
        Self { source: Source::ServiceManager(requests) }
    }

    /// Waits for the next request.
    pub(super) async fn next(&mut self) {
        match &mut self.source {
            Source::Console { ctrl_c, ctrl_break, close, shutdown } => tokio::select! {
                _ = ctrl_c.recv() => (),
                _ = ctrl_break.recv() => (),
                _ = close.recv() => (),
                _ = shutdown.recv() => (),
            },
            Source::ServiceManager(requests) => {
                if requests.recv().await.is_none() {
                    return std::future::pending().await;
                }
                requests.close();
                while requests.try_recv().is_ok() {}
            }
        }
    }
}

/// A flag that the first Ctrl-C sets, for a command that ends in good order by looking at it now and then.
///
/// # Errors
///
/// The system refuses to install a handler, or a thread.
pub(super) fn watch_for_interrupt() -> io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(interrupted)
}
