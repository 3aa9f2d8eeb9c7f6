//! Mistakes that can be planted in the model, so that the checker is seen to find them.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// An answer is passed on before its hold outlives the hub.
    DeliversBeforeTheHold,
    /// The end is passed on before the settlement is durable.
    EndsBeforeTheSettlement,
    /// A commit returns before the disk has it.
    NeverSyncs,
    /// The next start overlooks the holds of the last moments.
    ForgetsTheFlight,
    /// A hold leaves the file of the last moments before the journal has it.
    FreesTheFlightEarly,
    /// The next start writes rows for holds that have one.
    RecoversTheKnown,
    /// What an earlier hub left open stays open.
    LeavesHoldsOpen,
    /// Holds are released before the journal is posted.
    ReleasesBeforePosting,
    /// A hub that was replaced may still commit.
    CommitsInAnyEpoch,
    /// A hub that was replaced may still look balances up, and grant by them.
    LearnsInAnyEpoch,
    /// Posting does not note how far it came.
    PostsAgain,
    /// Posting stops at the first page that was posted by another.
    StopsAtPostedPages,
    /// A slot is written over before its page was posted.
    ReusesSlotsEarly,
    /// A new hub numbers its pages from the start.
    NumbersPagesAnew,
    /// A batch of unknown fate is written a second time at another place.
    RetriesElsewhere,
    /// A batch of unknown fate is taken for lost.
    ForgetsTheDoubtful,
    /// Promises are not counted when a hold is granted.
    GrantsTwice,
    /// A settled hold is settled by its drop again.
    SettlesTwice,
    /// A hold is opened by the batch that settles it.
    OpensTheEnded,
    /// The journal is not told that a settled hold was open.
    ClosesAsNeverOpened,
    /// A charge above its hold is not bounded by what is left.
    OverdrawsAboveTheHold,
}

impl Bug {
    /// Every mistake.
    pub const ALL: [Self; 21] = [
        Self::DeliversBeforeTheHold,
        Self::EndsBeforeTheSettlement,
        Self::NeverSyncs,
        Self::ForgetsTheFlight,
        Self::FreesTheFlightEarly,
        Self::RecoversTheKnown,
        Self::LeavesHoldsOpen,
        Self::ReleasesBeforePosting,
        Self::CommitsInAnyEpoch,
        Self::LearnsInAnyEpoch,
        Self::PostsAgain,
        Self::StopsAtPostedPages,
        Self::ReusesSlotsEarly,
        Self::NumbersPagesAnew,
        Self::RetriesElsewhere,
        Self::ForgetsTheDoubtful,
        Self::GrantsTwice,
        Self::SettlesTwice,
        Self::OpensTheEnded,
        Self::ClosesAsNeverOpened,
        Self::OverdrawsAboveTheHold,
    ];
}
