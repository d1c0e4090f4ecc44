//! Any bytes as a datagram: an event with nothing forbidden in it, or a reason, and twice the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sense_otel::event::text::is_forbidden;
use sense_otel::event::{Event, decode};

fuzz_target!(|bytes: &[u8]| {
    let decoded = decode(bytes);
    assert_eq!(decoded, decode(bytes));
    if let Ok(event) = decoded {
        let Event { user, node, app_name, user_agent, failure, .. } = &event;
        assert!(!user.name.is_empty() && !node.is_empty());
        let texts = [
            Some(&user.name),
            Some(node),
            user.directory.as_ref(),
            app_name.as_ref(),
            user_agent.as_ref(),
            failure.as_ref(),
        ];
        for text in texts.into_iter().flatten() {
            assert!(!text.chars().any(is_forbidden), "{text:?}");
            assert_eq!(text.trim(), text.as_ref());
        }
    }
});
