//! A client, what it has heard, and what it holds that against.

use super::*;

/// The accepted publications: payload numbers by epoch, in order of their sequences.
#[derive(Default)]
pub(super) struct Oracle {
    // None of those that were begun, and not completed.
    pub(super) accepted: HashMap<u64, Vec<Option<u32>>>,
    // Likewise: counts. They go on when a topic was forgotten and begins anew.
    pub(super) counts: HashMap<u64, Vec<u64>>,
    // By topic and payload, in this life of the daemon.
    pub(super) times: HashMap<(usize, u32), u64>,
    // Epoch, producer, number; in this life of the daemon.
    pub(super) distinct: BTreeSet<(u64, u8, u64)>,
}

impl Oracle {
    pub(super) fn begin(&mut self, epoch: u64) {
        self.accepted.entry(epoch).or_default().push(None);
        self.counts.entry(epoch).or_default().push(0);
    }
}

/// A subscription as the client knows it.
pub(super) struct View {
    pub(super) filter: &'static str,
    pub(super) since: Option<Position>,
    // By topic: id, epoch and the next sequence needed.
    pub(super) heard: BTreeMap<String, (u64, u64, u64)>,
    pub(super) reader: FrameReader,
    pub(super) under_way: VecDeque<Bytes>,
    pub(super) subscription: Option<SubscriptionId>,
    // A message of which a part has come: epoch, sequence, bytes.
    pub(super) part: Option<(u64, u64, Vec<u8>)>,
}

pub(super) struct Client {
    pub(super) producer: u8,
    pub(super) peer: Option<Peer>,
    pub(super) numbers: [u64; TOPICS.len()],
    // Published, and no receipt yet: topic, number, payload.
    pub(super) unconfirmed: Vec<(usize, u64, u32)>,
    pub(super) to_daemon: VecDeque<(usize, u64, u32)>,
    // Of the first of these: epoch and sequence, and how much has been sent.
    pub(super) sending: Option<((u64, u64), usize)>,
    // Answers, with the topic's epoch when they were given.
    pub(super) to_client: VecDeque<(u64, Bytes)>,
    pub(super) views: Vec<View>,
}

impl Client {
    pub(super) fn connect(&mut self, engine: &mut Engine, run: u64) {
        let mut peer = Peer::open(engine, self.producer);
        for (alias, name) in TOPICS.into_iter().enumerate() {
            let alias = alias as u32;
            peer.say(engine, &ClientFrame::Topic { alias, name }).unwrap();
        }
        for (request, view) in self.views.iter_mut().enumerate() {
            let topics = view.heard.iter();
            let topics = topics.map(|(topic, &(_, epoch, next))| Resume { topic, epoch, next });
            let topics = topics.collect();
            let start = match view.since {
                Some(since) => Start::Resume { since, topics },
                None if request % 2 == 0 => Start::New,
                None => Start::All,
            };
            let frame = subscribe(request as u32, view.filter, start);
            let action = peer.say(engine, &frame).unwrap();
            let Some(Action::Deliver { subscription, .. }) = action else { panic!("{action:?}") };
            let reply = peer.reply();
            let DaemonFrame::Subscribed { position, .. } = decode(&reply) else { panic!() };
            view.since.get_or_insert(Position { run, position });
            view.subscription = Some(subscription);
        }
        self.to_daemon.extend(&self.unconfirmed);
        self.peer = Some(peer);
    }

    // The link breaks: what is under way is lost.
    pub(super) fn disconnect(&mut self, engine: &mut Engine) {
        if let Some(mut peer) = self.peer.take() {
            assert_eq!(peer.session.close(engine), self.views.len());
        }
        self.to_daemon.clear();
        self.to_client.clear();
        self.sending = None;
        for view in &mut self.views {
            view.under_way.clear();
            view.part = None;
            view.reader = FrameReader::new(1 << 24);
            view.subscription = None;
            // Ids are announced anew.
            for heard in view.heard.values_mut() {
                heard.0 = 0;
            }
        }
    }

    // A receipt arrives.
    pub(super) fn confirm(&mut self, oracle: &Oracle) {
        let Some((epoch, frame)) = self.to_client.pop_front() else {
            return;
        };
        let DaemonFrame::Receipt { alias, number, sequence, count, since, digest, .. } =
            decode(&frame)
        else {
            panic!("{frame:?}");
        };
        let place = |sent: &(usize, u64, u32)| sent.0 == alias as usize && sent.1 == number;
        let Some(at) = self.unconfirmed.iter().position(place) else {
            return;
        };
        let (_, _, n) = self.unconfirmed.remove(at);
        // The receipt of a begin has zeros as its digest if the message has left the cache.
        let unknown = sequence == 0 && digest == Digest([0; 32]);
        assert!(unknown || digest == Digest::of(&payload(n)));
        if sequence > 0 {
            let accepted = &oracle.accepted[&epoch];
            let at = sequence as usize - 1;
            assert_eq!(accepted[at], Some(n), "another publication's receipt");
            assert_eq!((count, since), (oracle.counts[&epoch][at], 0));
        }
    }
}

fn place(heard: &mut BTreeMap<String, (u64, u64, u64)>, id: u64) -> (&u64, &mut u64) {
    let found = heard.values_mut().find(|heard| heard.0 == id);
    let (_, epoch, next) = found.expect("a topic that was not announced");
    (epoch, next)
}

impl View {
    // A piece of the subscription's stream arrives.
    pub(super) fn receive(&mut self, oracle: &Oracle) {
        let Some(piece) = self.under_way.pop_front() else {
            return;
        };
        self.reader.push(piece);
        while let Some(frame) = self.reader.next_frame().unwrap() {
            match decode(&frame) {
                DaemonFrame::Topic { id, epoch, next, name } => {
                    let before = self.heard.insert(name.to_owned(), (id, epoch, next));
                    if let Some((_, known, wanted)) = before {
                        let expected = if known == epoch { wanted } else { 1 };
                        assert_eq!(next, expected, "resumed somewhere else");
                    }
                }
                DaemonFrame::Message { topic, sequence, payload: got, .. } => {
                    let (epoch, next) = place(&mut self.heard, topic);
                    assert_eq!(sequence, *next, "missed or repeated");
                    *next += 1;
                    let n = oracle.accepted[epoch][sequence as usize - 1].unwrap();
                    assert!(got == payload(n), "another payload");
                    assert!(got.len() <= LARGE);
                }
                DaemonFrame::Begin { topic, sequence, .. } => {
                    let (epoch, next) = place(&mut self.heard, topic);
                    assert_eq!(sequence, *next, "missed or repeated");
                    assert_eq!(self.part.replace((*epoch, sequence, Vec::new())), None);
                }
                DaemonFrame::Chunk { bytes } => {
                    self.part.as_mut().unwrap().2.extend_from_slice(bytes);
                }
                DaemonFrame::End { .. } => {
                    let (epoch, sequence, got) = self.part.take().unwrap();
                    let n = oracle.accepted[&epoch][sequence as usize - 1].unwrap();
                    assert!(got == payload(n), "another payload");
                    let heard = self.heard.values_mut().find(|heard| heard.1 == epoch).unwrap();
                    heard.2 += 1;
                }
                DaemonFrame::Abort { .. } => assert!(self.part.take().is_some()),
                DaemonFrame::Gap { topic, first, last, cause } => {
                    let (epoch, next) = place(&mut self.heard, topic);
                    assert!(first == *next && last >= first);
                    let accepted = &oracle.accepted[epoch];
                    assert!(last <= accepted.len() as u64);
                    let mut gone = (first..=last).map(|sequence| accepted[sequence as usize - 1]);
                    assert!(cause == GapCause::Evicted || gone.all(|n| n.is_none()));
                    *next = last + 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
