//! Recycles exchanges: those of requests that are over lend their memory to the next ones.

use std::mem;
use std::sync::{Arc, PoisonError};

use super::body::Body;
use super::request::{Entries, MOST_KEPT, Request};
use super::{CallParams, Completions, Delivery, Exchange};

/// Largest number of exchanges to keep. With more in flight, requests are so slow that an allocation does not matter.
const MOST: usize = 64;

/// Exchanges to which there is no other reference, the most recent on top. They hold their own memory, and shared
/// objects that live on anyway: the base environ, the completions.
#[derive(Debug, Default)]
pub struct Recycler(Vec<Arc<Exchange>>);

impl Recycler {
    /// Adds an exchange, with the memory of its response's head, unless there are other references to it.
    pub fn add(&mut self, mut exchange: Arc<Exchange>, mut memory: Vec<u8>) {
        if self.0.len() >= MOST {
            return;
        }
        let Some(over) = Arc::get_mut(&mut exchange) else { return };
        over.request.own.clear();
        over.request.body = Body::default();
        over.params.inbox = None;
        memory.clear();
        memory.shrink_to(MOST_KEPT);
        let outbox = over.outbox.get_mut().unwrap_or_else(PoisonError::into_inner);
        (outbox.delivery, outbox.memory) = (Delivery::default(), memory);
        self.0.push(exchange);
    }

    /// Returns memory for the entries of the next request.
    pub fn entries(&mut self) -> Entries {
        let top = self.0.last_mut().and_then(Arc::get_mut);
        top.map(|exchange| mem::take(&mut exchange.request.own)).unwrap_or_default()
    }

    /// As [`Exchange::new`], in recycled memory if there is some.
    pub fn exchange(&mut self, request: Request, params: CallParams, completions: &Arc<Completions>) -> Arc<Exchange> {
        if let Some(mut exchange) = self.0.pop() {
            if let Some(recycled) = Arc::get_mut(&mut exchange).filter(|it| Arc::ptr_eq(&it.completions, completions)) {
                recycled.request = request;
                recycled.params = params;
                recycled.start();
                return exchange;
            }
        }
        Exchange::new(request, params, Arc::clone(completions))
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::Origin;
    use super::super::names;
    use super::super::response::End;
    use super::*;

    fn params(owner: usize) -> CallParams {
        CallParams { app: 0, pool: 0, window: 4, origin: Origin::default(), inbox: None, owner }
    }

    fn completions() -> Arc<Completions> {
        Arc::new(Completions::new(Box::new(|| ())))
    }

    #[test]
    fn the_next_request_has_the_memory_and_nothing_else_of_the_last_one() {
        let mut recycler = Recycler::default();
        assert!(recycler.entries().iter().next().is_none());
        let mut request = Request::default();
        request.own.push(names::PATH_INFO, b"/secret");
        let completions = completions();
        let first = recycler.exchange(request, params(1), &completions);
        assert!(first.begin());
        first.end(End::Complete);
        completions.drain(|exchange| assert!(exchange.take().end.is_some()));
        first.abandon();
        let address = Arc::as_ptr(&first);
        let mut memory = first.memory();
        assert_eq!(memory.capacity(), 0);
        memory.extend_from_slice(b"secret");
        recycler.add(first, memory);

        let entries = recycler.entries();
        assert!(entries.iter().next().is_none());
        let second = recycler.exchange(Request { own: entries, ..Request::default() }, params(2), &completions);
        assert_eq!(Arc::as_ptr(&second), address);
        assert!(second.owner() == 2 && second.is_queued() && !second.is_gone() && second.began().is_none());
        assert!(second.request.get(names::PATH_INFO).is_none() && second.take().is_empty());
        let memory = second.memory();
        assert!(memory.is_empty() && memory.capacity() > 0);
    }

    #[test]
    fn what_somebody_else_still_has_is_left_alone() {
        let mut recycler = Recycler::default();
        let exchange = Exchange::new(Request::default(), params(1), completions());
        let kept = Arc::clone(&exchange);
        recycler.add(exchange, Vec::new());
        assert!(recycler.0.is_empty());
        assert_eq!(kept.owner(), 1);
    }

    #[test]
    fn of_much_memory_most_is_given_back() {
        let mut recycler = Recycler::default();
        let mut request = Request::default();
        request.own.push(names::QUERY_STRING, &vec![b'x'; 1 << 20]);
        let exchange = Exchange::new(request, params(1), completions());
        recycler.add(exchange, vec![0; 1 << 20]);
        assert!(recycler.0[0].request.own.memory() <= MOST_KEPT && recycler.0[0].memory().capacity() <= MOST_KEPT);
        for _ in 0..2 * MOST {
            recycler.add(Exchange::new(Request::default(), params(1), completions()), Vec::new());
        }
        assert_eq!(recycler.0.len(), MOST);
    }
}
