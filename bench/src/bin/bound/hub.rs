//! Rooms, and the two ways of writing to their members.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    io::{self, IoSlice},
    rc::Rc,
};

use roomcast_bench::{frame, text};
use tokio::{
    net::tcp::OwnedWriteHalf,
    sync::Notify,
    task::{spawn_local, yield_now},
};

/// How many unsent bytes a member may have until it is dropped.
const MAX_QUEUED: usize = 4_000_000;
/// How many frames one write takes.
const MAX_SLICES: usize = 64;

/// A frame that all its recipients share.
type Frame = Rc<[u8]>;

/// A websocket's sending half, and what is still to be sent.
pub struct Member {
    write: OwnedWriteHalf,
    queue: RefCell<VecDeque<Frame>>,
    queued: Cell<usize>,
    /// How much of the first queued frame has been sent.
    sent: Cell<usize>,
    /// Whether something will send the queue already.
    scheduled: Cell<bool>,
    gone: Cell<bool>,
    dropped: Notify,
    room: RefCell<Option<Vec<u8>>>,
}

impl Member {
    /// A member without a room.
    pub fn new(write: OwnedWriteHalf) -> Rc<Self> {
        Rc::new(Self {
            write,
            queue: RefCell::default(),
            queued: Cell::new(0),
            sent: Cell::new(0),
            scheduled: Cell::new(false),
            gone: Cell::new(false),
            dropped: Notify::new(),
            room: RefCell::default(),
        })
    }

    /// Waits until it is dropped for not reading.
    pub async fn dropped(&self) {
        self.dropped.notified().await;
    }

    fn push(&self, frame: &Frame) {
        if self.gone.get() {
            return;
        }
        self.queued.set(self.queued.get() + frame.len());
        if self.queued.get() > MAX_QUEUED {
            self.drop();
        } else {
            self.queue.borrow_mut().push_back(frame.clone());
        }
    }

    fn drop(&self) {
        self.gone.set(true);
        self.queue.borrow_mut().clear();
        self.dropped.notify_one();
    }

    /// Writes as much of the queue as the socket takes; whether that was all.
    fn flush(&self) -> bool {
        let mut queue = self.queue.borrow_mut();
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(queue.iter()) {
                let from = if count == 0 { self.sent.get() } else { 0 };
                *slice = IoSlice::new(&frame[from..]);
                count += 1;
            }
            match self.write.try_write_vectored(&slices[..count]) {
                Ok(written) => {
                    self.queued.set(self.queued.get() - written);
                    let mut left = self.sent.get() + written;
                    while queue.front().is_some_and(|frame| frame.len() <= left) {
                        left -= queue.pop_front().map_or(0, |frame| frame.len());
                    }
                    self.sent.set(left);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => {
                    std::mem::drop(queue);
                    self.drop();
                    return true;
                }
            }
        }
        true
    }

    /// Sends the queue as the socket takes it.
    fn flush_later(self: Rc<Self>) {
        self.scheduled.set(true);
        spawn_local(async move {
            while !self.gone.get() && !self.flush() {
                if self.write.writable().await.is_err() {
                    break;
                }
            }
            self.scheduled.set(false);
        });
    }
}

/// All rooms.
pub struct Hub {
    batched: bool,
    rooms: RefCell<HashMap<Vec<u8>, Vec<Rc<Member>>>>,
    /// The members with something to send in the next round.
    dirty: RefCell<Vec<Rc<Member>>>,
    wake: Notify,
}

impl Hub {
    /// No rooms yet.
    pub fn new(batched: bool) -> Rc<Self> {
        let hub = Rc::new(Self {
            batched,
            rooms: RefCell::default(),
            dirty: RefCell::default(),
            wake: Notify::new(),
        });
        if batched {
            spawn_local(hub.clone().rounds());
        }
        hub
    }

    /// Writes, again and again, to all that were marked, once the others had their turn.
    async fn rounds(self: Rc<Self>) {
        let mut round = Vec::new();
        loop {
            self.wake.notified().await;
            yield_now().await;
            std::mem::swap(&mut round, &mut *self.dirty.borrow_mut());
            for member in round.drain(..) {
                member.scheduled.set(false);
                if !member.flush() {
                    member.flush_later();
                }
            }
        }
    }

    /// Adds the member to a room; it can be in one only.
    pub fn join(&self, room: &[u8], member: &Rc<Member>) {
        self.leave(member);
        *member.room.borrow_mut() = Some(room.to_vec());
        self.rooms.borrow_mut().entry(room.to_vec()).or_default().push(member.clone());
    }

    /// Takes the member out of its room.
    pub fn leave(&self, member: &Rc<Member>) {
        let Some(room) = member.room.take() else { return };
        let mut rooms = self.rooms.borrow_mut();
        if let Some(members) = rooms.get_mut(&room) {
            members.retain(|other| !Rc::ptr_eq(other, member));
            if members.is_empty() {
                rooms.remove(&room);
            }
        }
    }

    /// Sends a message, a JSON object, to the room that it names, except to one member.
    pub fn publish(&self, object: &[u8], except: Option<&Rc<Member>>) {
        let rooms = self.rooms.borrow();
        let Some(members) = text::room(object).and_then(|room| rooms.get(room)) else { return };
        let packet = [text::DELIVERY, object, b"]"].concat();
        let frame: Frame = frame::of_server(frame::TEXT, &packet).into();
        for member in members {
            if except.is_none_or(|except| !Rc::ptr_eq(except, member)) {
                self.send(member, &frame);
            }
        }
    }

    /// Sends a frame to a member, now or in the next round.
    pub fn send(&self, member: &Rc<Member>, frame: &Frame) {
        member.push(frame);
        if member.scheduled.get() || member.gone.get() {
            return;
        }
        if self.batched {
            member.scheduled.set(true);
            self.dirty.borrow_mut().push(member.clone());
            self.wake.notify_one();
        } else if !member.flush() {
            member.clone().flush_later();
        }
    }
}
