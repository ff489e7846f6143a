//! Topics as NATS subjects.
//!
//! `demo/a` is `weir.demo.a`, below the prefix of the stream. Characters that have a meaning in
//! subjects, or that NATS forbids, are written as in a URL: `v1.2/a b` is `weir.v1%2E2.a%20b`.

/// Returns the subject of a topic below a prefix.
pub(crate) fn of_topic(prefix: &str, topic: &str) -> String {
    let mut subject = String::with_capacity(prefix.len() + 1 + topic.len());
    subject.push_str(prefix);
    for segment in topic.split('/') {
        subject.push('.');
        for character in segment.chars() {
            match character {
                '.' | '*' | '>' | '%' | ' ' => {
                    subject.push('%');
                    subject.push_str(match character {
                        '.' => "2E",
                        '*' => "2A",
                        '>' => "3E",
                        '%' => "25",
                        _ => "20",
                    });
                }
                _ => subject.push(character),
            }
        }
    }
    subject
}

/// Returns the topic of a subject; none if it is not below the prefix, or is not what
/// [`of_topic`] writes: two subjects must not be one topic.
pub(crate) fn topic_of(prefix: &str, subject: &str) -> Option<String> {
    let rest = subject.strip_prefix(prefix)?.strip_prefix('.')?;
    let mut topic = String::with_capacity(rest.len());
    let mut bytes = rest.split('%');
    topic.push_str(&bytes.next()?.replace('.', "/"));
    for part in bytes {
        topic.push(match part.get(..2)? {
            "2E" => '.',
            "2A" => '*',
            "3E" => '>',
            "25" => '%',
            "20" => ' ',
            _ => return None,
        });
        topic.push_str(&part[2..].replace('.', "/"));
    }
    // A `/` in a subject would be a second name of a topic.
    (!rest.contains('/')).then_some(topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_are_readable_subjects() {
        for (topic, subject) in [
            ("demo/a", "weir.demo.a"),
            ("a", "weir.a"),
            ("v1.2/a b", "weir.v1%2E2.a%20b"),
            ("100%/>/é", "weir.100%25.%3E.é"),
            ("$SYS/x", "weir.$SYS.x"),
        ] {
            assert_eq!(of_topic("weir", topic), subject);
            assert_eq!(topic_of("weir", subject).as_deref(), Some(topic));
        }
        for other in ["weir", "weird.a", "other.a", "weir.%", "weir.%2e", "weir.%41", "weir.a/b"] {
            assert_eq!(topic_of("weir", other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_topic_has_a_subject_of_its_own(topic in "[^\\p{Cc}*]{1,40}") {
            let subject = of_topic("weir.eu", &topic);
            prop_assert!(!subject.contains([' ', '>', '*', '/']));
            prop_assert_eq!(topic_of("weir.eu", &subject), Some(topic));
        }

        #[test]
        fn every_subject_is_of_one_topic(rest in "[a-c.%0-9EA/]{0,12}") {
            let subject = format!("weir.{rest}");
            if let Some(topic) = topic_of("weir", &subject) {
                prop_assert_eq!(of_topic("weir", &topic), subject);
            }
        }
    }
}
