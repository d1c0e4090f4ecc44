//! What the operator reads about a backend that takes what it is sent.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};

use tracing::Dispatch;

use super::*;

/// The log of this thread, to read.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    pub(crate) fn install(&self) -> tracing::subscriber::DefaultGuard {
        // With a single subscriber alive, tracing remembers for all threads that the first one has none.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));
        LazyLock::force(&SECOND);
        let written = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || written.clone()).finish())
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().expect("no writer panics").clone()).expect("text");
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

#[tokio::test]
async fn what_a_backend_says_beside_ok_is_in_the_log() {
    let warning = Answer::Partial { rejected: 0, message: "your clock\nis late".to_owned() };
    let unreadable = Answer::http(200, &[("grpc-status", "0")]);
    for (answer, text) in
        [(warning, "your clock is late"), (unreadable, "the server said OK, and its answer could not be read")]
    {
        let written = Written::default();
        let _this_thread = written.install();
        let collector = Collector::start();
        collector.answer(Signal::Logs, [answer]);
        let rig = Rig::with_backlog(config(collector.addr()), vec![logs(0..3)]);
        rig.delivered(Signal::Logs).await;
        let counts = rig.stop(GRACE).await;
        assert_eq!((counts.acknowledged, counts.refused), (3, 0));
        let line = "WARN the backend takes everything, and has something to say signal=logs calls=1 answer=";
        assert_eq!(written.lines(), [format!("{line}\"{text}\"")]);
    }
}
