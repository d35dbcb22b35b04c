use std::sync::Arc;

use damselfly_broker::{Access, Answer, Question, QuestionId};
use damselfly_examples::broker::{AllowAll, Host};

/// Lets everybody in, and gives everybody the same access rules.
#[derive(Clone, Debug)]
pub(crate) struct Rules(Option<Arc<Access>>);

impl Rules {
    pub(crate) fn new(access: Option<Access>) -> Self {
        Self(access.map(Arc::new))
    }

    pub(crate) fn answer(&self, id: QuestionId, question: &Question) -> Option<Answer> {
        let mut answer = AllowAll.answer(id, question)?;
        if let Answer::Allow(grant) = &mut answer {
            grant.access.clone_from(&self.0);
        }
        Some(answer)
    }
}
